-- Ages by country, out of the traits' text.
SELECT traits->>'country' AS country, min(CAST(traits->>'age' AS INTEGER)) AS youngest, max(CAST(traits->>'age' AS INTEGER)) AS oldest, count(*) AS people
FROM profiles GROUP BY 1 ORDER BY 1
