-- Orders by source and product, with sums.
SELECT source, product, count(*) AS orders FROM events WHERE name = 'Order Completed'
GROUP BY ROLLUP (source, product) ORDER BY source NULLS LAST, product NULLS LAST
