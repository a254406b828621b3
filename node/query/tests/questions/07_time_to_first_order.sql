-- Hours from the first event to the first order.
WITH firsts AS (
  SELECT e.profile_id, min(p.first_seen) AS seen, min(e.timestamp) AS ordered
  FROM events e JOIN profiles p ON p.profile_id = e.profile_id WHERE e.name = 'Order Completed' GROUP BY e.profile_id
)
SELECT floor((extract(epoch FROM ordered) - extract(epoch FROM seen)) / 3600) AS waited, count(*) AS people FROM firsts GROUP BY 1 ORDER BY 1
