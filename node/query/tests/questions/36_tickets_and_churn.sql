-- Who complained, and whether they bought after that.
WITH tickets AS (
  SELECT profile_id, properties->>'topic' AS topic, min(timestamp) AS complained_at
  FROM events WHERE name = 'Support Ticket' GROUP BY 1, 2
), after AS (
  SELECT DISTINCT t.profile_id, t.topic FROM tickets t
  JOIN events e ON e.profile_id = t.profile_id AND e.name = 'Order Completed' AND e.timestamp > t.complained_at
)
SELECT t.topic, count(*) AS people, count(a.profile_id) AS bought_again
FROM tickets t LEFT JOIN after a ON a.profile_id = t.profile_id AND a.topic = t.topic
GROUP BY t.topic ORDER BY t.topic
