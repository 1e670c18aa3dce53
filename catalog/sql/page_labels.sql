-- The best labels of some features, each with its score against the hardest negatives.
with wanted as (
    select unnest($dictionary_ids::varchar[]) as dictionary_id, unnest($feature_indices::integer[]) as feature_index
),
written as (
    select e.dictionary_id, e.feature_index, e.explanation_id, e.text, e.created_at
    from explanations as e
    semi join wanted using (dictionary_id, feature_index)
    where e.status = 'ok'
),
scored as (
    select s.explanation_id, s.value, s.ci_low, s.ci_high, s.chance, s.n
    from scores as s
    semi join wanted using (dictionary_id, feature_index)
    where s.metric = 'balanced_accuracy' and s.value is not null
    qualify row_number() over (
        partition by s.explanation_id
        order by
            case s.variant when 'neighbour' then 0 when 'mixed' then 1 when 'random' then 2 else 3 end,
            s.ci_low desc nulls last, s.scorer, s.judge, s.created_at desc
    ) = 1
)
select
    w.dictionary_id, w.feature_index, w.text as label, s.value as score, s.ci_low, s.ci_high, s.chance, s.n as n_judged
from written as w
left join scored as s using (explanation_id)
qualify row_number() over (
    partition by w.dictionary_id, w.feature_index
    order by s.ci_low desc nulls last, s.value desc nulls last, w.created_at desc
) = 1
