-- Added without an order within two hours.
SELECT a.product, count(*) AS carts FROM events a
LEFT JOIN events o ON o.profile_id = a.profile_id AND o.name = 'Order Completed' AND o.timestamp > a.timestamp
  AND o.timestamp <= a.timestamp + INTERVAL '2' HOUR
WHERE a.name = 'Product Added' AND o.message_id IS NULL GROUP BY a.product ORDER BY carts DESC, a.product
