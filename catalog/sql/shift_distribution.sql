-- How the features of one comparison are spread: correlation, overlap of firing and effect, in 20 bins each.
with long as (
    unpivot (
        select pearson, jaccard, effect
        from feature_shifts
        where dictionary_id = $dictionary_id and set_a = $set_a and set_b = $set_b and comparison = $comparison
    ) on pearson, jaccard, effect into name measure value value
),
edges as (
    select measure, min(value) as lowest, greatest(max(value) - min(value), 1e-12) as width from long group by measure
)
select
    measure,
    lowest + least(19, floor(20 * (value - lowest) / width)) * width / 20 as low,
    lowest + (least(19, floor(20 * (value - lowest) / width)) + 1) * width / 20 as high,
    count(*) as n
from long
join edges using (measure)
group by measure, low, high
order by measure, low
