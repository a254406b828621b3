-- Revenue by age.
SELECT CASE WHEN age < 30 THEN 'under 30' WHEN age < 50 THEN '30 to 49' ELSE '50 and more' END AS ages, count(*) AS people, sum(revenue) AS revenue
FROM profiles GROUP BY 1 ORDER BY 1
