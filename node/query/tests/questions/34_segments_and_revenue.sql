-- What members of a segment bring, against the others.
SELECT m.segment IS NOT NULL AS member, count(*) AS people, sum(p.revenue) AS revenue
FROM profiles p LEFT JOIN segment_members m ON m.profile_id = p.profile_id AND m.segment = 'even' GROUP BY 1 ORDER BY 1
