-- People with an e-mail address, and how many events came before it was first used.
SELECT count(*) AS people, sum(earlier) AS events FROM (
  SELECT i.profile_id, count(e.message_id) AS earlier FROM identifiers i
  LEFT JOIN events e ON e.profile_id = i.profile_id AND e.timestamp < i.first_seen
  WHERE i.namespace = 'email' GROUP BY i.profile_id
) counted
