-- Of those who first bought in a month: how many buy again so many months later.
WITH orders AS (
  SELECT profile_id, date_trunc('month', timestamp) AS month FROM events WHERE name = 'Order Completed'
), firsts AS (
  SELECT profile_id, min(month) AS cohort FROM orders GROUP BY profile_id
)
SELECT f.cohort,
  (extract(year FROM o.month) - extract(year FROM f.cohort)) * 12 + extract(month FROM o.month) - extract(month FROM f.cohort) AS later,
  count(DISTINCT o.profile_id) AS people
FROM orders o JOIN firsts f ON f.profile_id = o.profile_id
GROUP BY 1, 2 ORDER BY 1, 2
