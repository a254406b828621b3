-- Saw much, bought nothing.
SELECT p.profile_id, p.events FROM profiles p
WHERE p.events > 3 AND NOT EXISTS (SELECT 1 FROM events e WHERE e.profile_id = p.profile_id AND e.name = 'Order Completed')
ORDER BY p.events DESC, p.profile_id
