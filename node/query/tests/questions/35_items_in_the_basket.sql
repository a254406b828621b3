-- What lies beside the first thing in a basket.
SELECT properties->'items'->0->>'sku' AS first_item, properties->'items'->1->>'sku' AS second_item, count(*) AS orders,
  sum(CAST(properties->'items'->0->>'count' AS BIGINT)) AS pieces
FROM events WHERE name = 'Order Completed' GROUP BY 1, 2 ORDER BY orders DESC, 1, 2 LIMIT 50
