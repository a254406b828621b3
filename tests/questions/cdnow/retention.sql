-- Of each month's new customers: how many bought in which month after.
WITH purchases AS (
  SELECT
    profile_id,
    CAST(date_part('year', timestamp) * 12 + date_part('month', timestamp) - 1 AS BIGINT) AS month
  FROM events
  WHERE name = 'Order Completed'
),
months AS (
  SELECT DISTINCT profile_id, month, min(month) OVER (PARTITION BY profile_id) AS first_month FROM purchases
)
SELECT
  CAST(first_month / 12 AS VARCHAR) || '-' || lpad(CAST(first_month % 12 + 1 AS VARCHAR), 2, '0') AS cohort,
  month - first_month AS months_since,
  count(*) AS customers
FROM months
WHERE month > first_month
GROUP BY first_month, month
ORDER BY cohort, months_since
