-- The middle of all orders of a source, and those that nine and ninety-nine in a hundred don't exceed.
WITH placed AS (
  SELECT source, revenue, cume_dist() OVER (PARTITION BY source ORDER BY revenue) AS place
  FROM events WHERE name = 'Order Completed'
)
SELECT source, count(*) AS orders, min(revenue) AS least, median(revenue) AS middle,
  min(revenue) FILTER (WHERE place >= 0.9) AS ninety, min(revenue) FILTER (WHERE place >= 0.99) AS ninety_nine,
  max(revenue) AS most
FROM placed GROUP BY source ORDER BY source
