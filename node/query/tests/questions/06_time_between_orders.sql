-- Days between one order and the next.
WITH gaps AS (
  SELECT profile_id, CAST(timestamp AS DATE) - CAST(lag(timestamp) OVER (PARTITION BY profile_id ORDER BY timestamp, message_id) AS DATE) AS gap
  FROM events WHERE name = 'Order Completed'
)
SELECT gap, count(*) AS times FROM gaps WHERE gap IS NOT NULL GROUP BY gap ORDER BY gap
