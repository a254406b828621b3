-- Customers by the month of their first purchase, and the share of them that bought again.
WITH customers AS (
  SELECT profile_id, date_trunc('month', min(timestamp)) AS first_month, count(*) AS purchases
  FROM events
  WHERE name = 'Order Completed'
  GROUP BY profile_id
)
SELECT
  to_char(first_month, '%Y-%m') AS cohort,
  count(*) AS customers,
  round(CAST(count(*) FILTER (WHERE purchases > 1) AS DOUBLE) / count(*), 6) AS repeat_rate
FROM customers
GROUP BY first_month
ORDER BY cohort
