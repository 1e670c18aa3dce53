-- How the features of one comparison are spread: correlation, overlap of firing and effect, in 20 bins each.
with long as (
    unpivot (
        select pearson, jaccard, effect
        from feature_shifts
        where dictionary_id = $dictionary_id and set_a = $set_a and set_b = $set_b and comparison = $comparison
    ) on pearson, jaccard, effect into name measure value value
),
edges as (
    select measure, min(value) as lowest, greatest(max(value) - min(value), 1e-12) / 20 as width from long group by measure
),
bins as (
    select measure, bin, lowest + bin * width as low, lowest + (bin + 1) * width as high
    from edges
    cross join (select unnest(range(20)) as bin)
),
counted as (
    select measure, least(19, floor((value - lowest) / width))::bigint as bin, count(*) as n
    from long
    join edges using (measure)
    group by all
)
select measure, low, high, coalesce(n, 0) as n
from bins
left join counted using (measure, bin)
order by measure, low
