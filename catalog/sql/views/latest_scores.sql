-- The newest value of every score: seeds and reruns of one scorer, judge and kind of negatives make one row.
-- One row is chosen as a whole, so that a null of the newest is not filled from an older one. Newest is what came
-- with the latest version of the catalogue (place), whatever the clocks said.
with newest as (
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
                'position': position,
                'created_at': created_at,
                'place': coalesce(c.place, -2_000_000_000)
            },
            {'place': coalesce(c.place, -2_000_000_000), 'at': created_at}
        ) as s
    from scores
    left join (select slice, place from commit_order where table_name = 'scores') as c using (slice)
    where value is not null
    group by dictionary_id, activation_set_id, feature_index, explanation_id, scorer, judge, metric, variant
)
select * exclude (s), unnest(s) from newest
