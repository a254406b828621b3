-- Who says that two names are one person, and how much came of it.
SELECT l.source, l.namespace, l.counterpart_namespace, count(*) AS facts, count(DISTINCT l.profile_id) AS people,
  sum(p.events) AS events
FROM link_facts l JOIN profiles p ON p.profile_id = l.profile_id
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
