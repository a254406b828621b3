-- People that two sources have seen.
SELECT profile_id FROM events WHERE source = 'web' INTERSECT SELECT profile_id FROM events WHERE source = 'app' ORDER BY profile_id
