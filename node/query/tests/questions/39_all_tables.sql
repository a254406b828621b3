-- Everything joined with everything.
SELECT i.namespace, m.segment, l.source AS linked_by, count(DISTINCT p.profile_id) AS people,
  count(DISTINCT e.message_id) AS events, count(DISTINCT q.id) AS kept_back
FROM profiles p
JOIN identifiers i ON i.profile_id = p.profile_id
JOIN events e ON e.profile_id = p.profile_id
LEFT JOIN link_facts l ON l.profile_id = p.profile_id
LEFT JOIN segment_members m ON m.profile_id = p.profile_id
LEFT JOIN quarantine q ON i.namespace = 'user_id' AND i.value = (q.payload->>'userId')
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
