-- Every table that tells of a customer, joined: by name and country, what people did, who vouches for it, what was kept back.
WITH did AS (
  SELECT profile_id, count(*) AS events, count(DISTINCT source) AS sources FROM events GROUP BY profile_id
), linked AS (
  SELECT profile_id, count(*) AS facts FROM link_facts GROUP BY profile_id
), kept AS (
  SELECT payload->>'userId' AS user_id, count(*) AS items FROM quarantine GROUP BY 1
)
SELECT i.namespace, p.country, count(*) AS names, count(DISTINCT p.profile_id) AS people, sum(d.events) AS events,
  max(d.sources) AS sources, sum(l.facts) AS facts, sum(k.items) AS kept_back
FROM profiles p
JOIN identifiers i ON i.profile_id = p.profile_id
JOIN did d ON d.profile_id = p.profile_id
LEFT JOIN linked l ON l.profile_id = p.profile_id
LEFT JOIN kept k ON i.namespace = 'user_id' AND i.value = k.user_id
GROUP BY 1, 2 ORDER BY 1, 2
