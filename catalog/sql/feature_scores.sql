-- The newest scores of every explanation of a feature by each scorer and judge; is_headline marks the score that ranks
-- the explanation.
select
    s.explanation_id, s.scorer, s.judge, s.metric, s.variant, s.seed, s.value, s.ci_low, s.ci_high, s.chance,
    coalesce(h.above_chance, s.above_chance) as above_chance, s.n, s.answered_share, s.negatives, s.prevalence, s.position,
    s.created_at, h.explanation_id is not null as is_headline, s.answered_by, s.confident
from scores as s
left join (select slice, place from commit_order where table_name = 'scores') as c using (slice)
left join (
    select * from explanation_scores where dictionary_id = $dictionary_id and feature_index = $feature_index
) as h
    on s.explanation_id = h.explanation_id and s.scorer = h.scorer and s.judge = h.judge and s.variant = h.variant
    and s.metric = h.metric and s.created_at = h.scored_at
where s.dictionary_id = $dictionary_id and s.feature_index = $feature_index
qualify s.fingerprint = first_value(s.fingerprint) over (
    partition by s.explanation_id, s.scorer, s.judge order by c.place desc nulls last, s.created_at desc, s.fingerprint desc
)
order by s.explanation_id, case s.metric when 'balanced_accuracy' then 0 when 'auroc' then 1 when 'correlation' then 2 else 3 end,
    s.position nulls last, s.scorer, s.variant, s.metric, s.judge,
    s.seed
limit 1000
