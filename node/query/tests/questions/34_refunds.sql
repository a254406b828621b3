-- What part of each product's orders is given back.
WITH refunds AS (
  SELECT profile_id, properties->>'order_id' AS order_id, CAST(properties->>'amount' AS DECIMAL(38, 8)) AS amount
  FROM events WHERE name = 'Order Refunded'
), orders AS (
  SELECT profile_id, properties->>'order_id' AS order_id, product, revenue FROM events WHERE name = 'Order Completed'
)
SELECT o.product, count(*) AS orders, count(r.order_id) AS refunds, sum(o.revenue) AS revenue, sum(r.amount) AS given_back,
  round(CAST(count(r.order_id) AS DOUBLE) / count(*), 4) AS share
FROM orders o LEFT JOIN refunds r ON r.profile_id = o.profile_id AND r.order_id = o.order_id
GROUP BY o.product ORDER BY o.product
