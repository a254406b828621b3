-- Days between one order and the next.
WITH gaps AS (
  SELECT profile_id, floor((extract(epoch FROM timestamp) - lag(extract(epoch FROM timestamp)) OVER (PARTITION BY profile_id ORDER BY timestamp, message_id)) / 86400) AS gap
  FROM events WHERE name = 'Order Completed'
)
SELECT gap, count(*) AS times FROM gaps WHERE gap IS NOT NULL GROUP BY gap ORDER BY gap
