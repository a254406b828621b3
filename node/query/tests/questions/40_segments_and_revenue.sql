-- What members of each segment bring, and those who are in none.
SELECT m.segment, count(*) AS people, sum(p.revenue) AS revenue
FROM profiles p LEFT JOIN segment_members m ON m.profile_id = p.profile_id GROUP BY m.segment ORDER BY m.segment
