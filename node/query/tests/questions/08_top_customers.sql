-- The ten who paid most.
SELECT profile_id, revenue, events FROM profiles ORDER BY revenue DESC, profile_id LIMIT 10
