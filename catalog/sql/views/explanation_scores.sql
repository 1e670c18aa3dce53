-- What an explanation is ranked by: balanced accuracy against its hardest negatives (neighbour, else mixed,
-- else random); of several scorers and judges the one with the highest lower end of the interval.
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
    n as n_judged,
    answered_share,
    created_at as scored_at
from latest_scores
where metric = 'balanced_accuracy'
qualify row_number() over (
    partition by dictionary_id, activation_set_id, feature_index, explanation_id
    order by
        case variant when 'neighbour' then 0 when 'mixed' then 1 when 'random' then 2 else 3 end,
        ci_low desc nulls last,
        scorer,
        judge
) = 1
