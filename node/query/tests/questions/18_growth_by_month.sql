-- Each month against the one before.
WITH months AS (
  SELECT date_trunc('month', timestamp) AS month, count(DISTINCT profile_id) AS people FROM events GROUP BY 1
)
SELECT month, people, people - lag(people) OVER (ORDER BY month) AS more FROM months ORDER BY month
