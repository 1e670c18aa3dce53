-- Distribution of the scores of mutual matches between two dictionaries, by method, in steps of 0.05.
with pairs as (
    select feature_a, feature_b, method, score, q_value from matches
    where mutual and dictionary_a = $dictionary_a and dictionary_b = $dictionary_b
    union all
    select feature_b, feature_a, method, score, q_value from matches
    where mutual and dictionary_a = $dictionary_b and dictionary_b = $dictionary_a
),
once as (
    select method, max(score) as score, min(q_value) as q_value from pairs group by method, feature_a, feature_b
)
select
    method,
    floor(score * 20) / 20 as low,
    floor(score * 20) / 20 + 0.05 as high,
    count(*) as n,
    count_if(q_value <= 0.05)::bigint as n_significant
from once
group by method, low
order by method, low
