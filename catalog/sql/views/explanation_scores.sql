-- What an explanation is ranked by, its headline: balanced accuracy as the scorer measured it that the pipeline
-- named first, against the hardest negatives (neighbour, else mixed, else random). Named before anything was
-- measured: the best of several scores of the same items is too high. Scorers that share a place: the newest; scores
-- without a place, from before there were any, come last, by name.
-- above_chance: as stored; of scores from before it was, where chance does not hang on one answer of a judge.
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
    created_at as scored_at
from latest_scores
where metric = 'balanced_accuracy'
qualify row_number() over (
    partition by dictionary_id, activation_set_id, feature_index, explanation_id
    order by
        position nulls last,
        case when position is not null then place end desc,
        case when position is not null then created_at end desc,
        scorer,
        judge,
        case variant when 'neighbour' then 0 when 'mixed' then 1 when 'random' then 2 else 3 end
) = 1
