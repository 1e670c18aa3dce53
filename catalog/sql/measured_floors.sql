-- What the scores of the labels of a dictionary on a set reach without a good label: one row per explainer, model that
-- writes, scorer, judge, metric, variant and floor. $floors, $floor_dictionaries and $floor_sets list the floors that are
-- other dictionaries, the best of each kind first (floor_sources). The other floors are on the same items: labels of
-- other features (shuffled_labels, the chance of each score), and the best single token of the feature (single_token).
-- value is the median score of the floor over n labels, with its 95 % interval by order statistics. lift is how much higher
-- the labels of the dictionary score: on the same items the median of the differences, else the difference of the medians
-- with both intervals combined by squares. threshold: a label of the floor exceeds it with a probability of 5 % at most
-- (order statistic ceil(0.95 (n + 1)), as in split conformal prediction); null with fewer than 19 labels.
with sources as (
    select null as floor, $dictionary_id as dictionary_id, $activation_set_id as activation_set_id, 0 as place
    union all
    select
        unnest($floors::varchar[]), unnest($floor_dictionaries::varchar[]), unnest($floor_sets::varchar[]),
        generate_subscripts($floors::varchar[], 1)
),
scored as (
    select
        q.floor, q.place, q.dictionary_id, q.activation_set_id, s.feature_index, e.explainer,
        coalesce(e.model, 'none') as writer, s.scorer, s.judge, s.metric, s.variant, s.value as score, s.chance
    from sources as q
    join latest_scores as s using (dictionary_id, activation_set_id)
    join explanations as e using (explanation_id)
    where s.metric in ('balanced_accuracy', 'auroc', 'correlation')
    -- A feature that was explained again has several texts of one explainer: the newest scored one counts.
    qualify row_number() over (
        partition by q.place, s.feature_index, e.explainer, e.model, s.scorer, s.judge, s.metric, s.variant
        order by s.place desc, s.created_at desc, s.explanation_id
    ) = 1
),
own as (
    select * from scored where floor is null
),
groups as (
    select
        floor, place, dictionary_id, activation_set_id, explainer, writer, scorer, judge, metric, variant,
        list_sort(list(score)) as scores
    from scored
    group by all
),
others as (
    select
        g.explainer, g.writer, g.scorer, g.judge, g.metric, g.variant, g.scores, f.floor,
        f.dictionary_id as floor_dictionary_id, f.activation_set_id as floor_set_id, f.scores as floor_scores
    from groups as g
    join groups as f using (explainer, writer, scorer, judge, metric, variant)
    where g.floor is null and f.floor is not null
    qualify row_number() over (
        partition by explainer, writer, scorer, judge, metric, variant, f.floor
        order by f.place
    ) = 1
),
paired as (
    -- The scores of a feature and of a floor on the same items.
    select explainer, writer, scorer, judge, metric, variant, 'shuffled_labels' as floor, score, chance as floor_score
    from own
    where chance is not null
    union all
    select o.explainer, o.writer, o.scorer, o.judge, o.metric, o.variant, 'single_token', o.score, t.score
    from own as o
    join own as t using (feature_index, scorer, judge, metric, variant)
    where t.explainer = 'single_token' and o.explainer <> 'single_token'
),
measured as (
    select
        explainer, writer, scorer, judge, metric, variant, floor, list_sort(list(floor_score)) as floor_scores,
        list_sort(list(score - floor_score)) as differences, null::double[] as scores,
        null::varchar as floor_dictionary_id, null::varchar as floor_set_id
    from paired
    group by all
    union all by name
    select *, null::double[] as differences from others
),
ranked as (
    -- The median of n sorted values, and the values at the ends of its interval.
    select
        *,
        list_transform([floor_scores, differences, scores], lambda v: {
            'median': list_median(v),
            'low': v[greatest(1, floor((len(v) - 1.96 * sqrt(len(v))) / 2))::bigint],
            'high': v[least(len(v), 1 + ceil((len(v) + 1.96 * sqrt(len(v))) / 2))::bigint]
        }) as medians
    from measured
)
select
    explainer,
    writer,
    scorer,
    judge,
    metric,
    variant,
    floor,
    medians[1].median as value,
    medians[1].low as ci_low,
    medians[1].high as ci_high,
    len(floor_scores)::bigint as n,
    coalesce(medians[2].median, medians[3].median - medians[1].median) as lift,
    coalesce(
        medians[2].low,
        medians[3].median - medians[1].median
        - sqrt((medians[3].median - medians[3].low) ** 2 + (medians[1].high - medians[1].median) ** 2)
    ) as lift_ci_low,
    coalesce(
        medians[2].high,
        medians[3].median - medians[1].median
        + sqrt((medians[3].high - medians[3].median) ** 2 + (medians[1].median - medians[1].low) ** 2)
    ) as lift_ci_high,
    case when floor_dictionary_id is not null then floor_scores[ceil(0.95 * (len(floor_scores) + 1))::bigint] end as threshold,
    floor_dictionary_id,
    floor_set_id
from ranked
order by explainer, writer, scorer, judge, metric, variant, floor
