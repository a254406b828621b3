-- People that only the shop has seen.
SELECT profile_id FROM events WHERE source = 'shop' EXCEPT SELECT profile_id FROM events WHERE source <> 'shop' ORDER BY profile_id
