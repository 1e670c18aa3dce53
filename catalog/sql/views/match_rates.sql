-- One row per pair of dictionaries and method: the share of features called the same, and the share that random
-- directions reach.
with best as (
    select *, count(*) over (partition by method) as n_family, rank() over (partition by method order by p_value desc) as n_from_above
    from matches
    where rank = 0 and p_value is not null
),
-- The p-values of the best partners of all features and all pairs of one method are adjusted together
-- (Benjamini-Hochberg).
adjusted as (
    select *, min(least(1, p_value * n_family / (n_family - n_from_above + 1)))
        over (partition by method order by p_value desc range between unbounded preceding and current row) as family_q_value
    from best
)
select
    dictionary_a,
    dictionary_b,
    method,
    activation_sets,
    count(*) as n_features,
    count_if(mutual)::bigint as n_mutual,
    count_if(verdict = 'same')::bigint as n_same,
    count_if(verdict = 'same') / count(*) as share_same,
    avg(floor_same::integer) as floor_share_same,
    median(score) as median_score,
    median(floor_score) as floor_median_score,
    any_value(same_above) as same_above,
    any_value(n_documents) as n_documents,
    count_if(verdict = 'same' and family_q_value <= 0.05)::bigint as n_same_in_family,
    any_value(n_family) as n_family,
    max(family_q_value) filter (where verdict = 'same') as largest_family_q_value
from adjusted
group by dictionary_a, dictionary_b, method, activation_sets
