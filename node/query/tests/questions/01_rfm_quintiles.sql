-- Recency, frequency and money, each in five parts.
WITH bought AS (
  SELECT profile_id, max(timestamp) AS last_order, count(*) AS orders, sum(revenue) AS money
  FROM events WHERE name = 'Order Completed' GROUP BY profile_id
), parts AS (
  SELECT profile_id,
    ntile(5) OVER (ORDER BY last_order, profile_id) AS r,
    ntile(5) OVER (ORDER BY orders, profile_id) AS f,
    ntile(5) OVER (ORDER BY money, profile_id) AS m
  FROM bought
)
SELECT r, f, m, count(*) AS people FROM parts GROUP BY r, f, m ORDER BY r, f, m
