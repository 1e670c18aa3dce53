-- The headline score of each explanation, by which it is ranked: of the scorer that the pipeline names first, its
-- balanced accuracy, else AUROC, else correlation (metric says which), against the hardest negatives (neighbour, else
-- mixed, else random). The choice is fixed before the measurement, because the best of several scores of the same items is biased upwards. Among scorers with the same
-- position the newest counts. Scores without a position (of older versions) come last, by name.
-- above_chance: as stored; computed for older scores if chance does not depend on one answer of a judge.
select
    dictionary_id,
    activation_set_id,
    feature_index,
    explanation_id,
    scorer,
    judge,
    variant,
    value as score,
    ci_low,
    ci_high,
    chance,
    coalesce(above_chance, case when n_donors is null and judge = 'none' then ci_low > greatest(chance, 0.5) end)
        as above_chance,
    n as n_judged,
    answered_share,
    created_at as scored_at,
    metric,
    answered_by
from latest_scores
where metric in ('balanced_accuracy', 'auroc', 'correlation')
qualify row_number() over (
    partition by dictionary_id, activation_set_id, feature_index, explanation_id
    order by
        position nulls last,
        case when position is not null then place end desc,
        case when position is not null then created_at end desc,
        scorer,
        judge,
        case metric when 'balanced_accuracy' then 0 when 'auroc' then 1 else 2 end,
        case variant when 'neighbour' then 0 when 'mixed' then 1 when 'random' then 2 else 3 end
) = 1
