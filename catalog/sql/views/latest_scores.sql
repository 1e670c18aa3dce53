-- The newest value of every score. Among seeds, settings and reruns of one scorer and judge the newest unit of work
-- counts as a whole: negatives of other settings do not mix in, and an older row does not fill a null. The newest is
-- the one of the latest version of the catalogue (place), independent of clocks.
with placed as not materialized (
    select s.*, coalesce(c.place, -2_000_000_000) as place
    from scores as s
    left join (select slice, place from commit_order where table_name = 'scores') as c using (slice)
    where value is not null
),
units as (
    select
        dictionary_id,
        activation_set_id,
        feature_index,
        explanation_id,
        scorer,
        judge,
        arg_max(fingerprint, {'place': place, 'at': created_at, 'unit': fingerprint}) as fingerprint
    from placed
    where metric in ('balanced_accuracy', 'pessimistic_balanced_accuracy', 'auroc', 'correlation') -- every scoring that has a value has one of them
    group by dictionary_id, activation_set_id, feature_index, explanation_id, scorer, judge
),
newest as (
    select
        dictionary_id,
        activation_set_id,
        feature_index,
        explanation_id,
        scorer,
        judge,
        metric,
        variant,
        arg_max(
            {
                'value': value,
                'ci_low': ci_low,
                'ci_high': ci_high,
                'chance': chance,
                'chance_ci_high': chance_ci_high,
                'above_chance': above_chance,
                'n': n,
                'n_donors': n_donors,
                'prevalence': prevalence,
                'answered_share': answered_share,
                'answered_by': answered_by,
                'confident': confident,
                'position': position,
                'created_at': created_at,
                'place': place
            },
            {'place': place, 'at': created_at}
        ) as s
    from placed
    join units
        using (dictionary_id, activation_set_id, feature_index, explanation_id, scorer, judge, fingerprint)
    group by dictionary_id, activation_set_id, feature_index, explanation_id, scorer, judge, metric, variant
)
select * exclude (s), unnest(s) from newest
