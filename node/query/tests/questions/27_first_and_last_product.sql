-- The first product and the last one that people bought.
SELECT first_product, last_product, count(*) AS people FROM (
  SELECT DISTINCT profile_id,
    first_value(product) OVER (PARTITION BY profile_id ORDER BY timestamp, message_id) AS first_product,
    first_value(product) OVER (PARTITION BY profile_id ORDER BY timestamp DESC, message_id DESC) AS last_product
  FROM events WHERE name = 'Order Completed'
) ends GROUP BY 1, 2 ORDER BY people DESC, 1, 2
