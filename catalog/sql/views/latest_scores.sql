-- The newest value of every score: seeds and reruns of one scorer, judge and kind of negatives make one row.
select
    dictionary_id,
    activation_set_id,
    feature_index,
    explanation_id,
    scorer,
    judge,
    metric,
    variant,
    arg_max(value, created_at) as value,
    arg_max(ci_low, created_at) as ci_low,
    arg_max(ci_high, created_at) as ci_high,
    arg_max(chance, created_at) as chance,
    arg_max(n, created_at) as n,
    arg_max(answered_share, created_at) as answered_share,
    max(created_at) as created_at
from scores
where value is not null
group by dictionary_id, activation_set_id, feature_index, explanation_id, scorer, judge, metric, variant
