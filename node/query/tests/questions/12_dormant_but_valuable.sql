-- Paid above the average, and silent for thirty days before the last event of all.
SELECT p.profile_id, p.revenue, p.last_seen FROM profiles p
WHERE p.revenue > (SELECT avg(revenue) FROM profiles)
  AND p.last_seen < (SELECT max(timestamp) FROM events) - INTERVAL '30' DAY
ORDER BY p.revenue DESC, p.profile_id
