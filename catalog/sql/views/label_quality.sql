-- Features of a dictionary on an activation set: how many there are, fire, have a label, a score, a label above chance
-- and a mutual match. The control is the share above chance of random directions on the same set, whose labels describe
-- no feature (of several such dictionaries the one nearest in width). n_floors: floors other than chance that were
-- measured; n_above_floors: labels above chance and all of these; null if there are none.
with counted as (
    select
        f.dictionary_id,
        f.activation_set_id,
        any_value(d.architecture) as architecture,
        any_value(d.d_sae) as d_sae,
        count_if(f.status <> 'unseen')::bigint as n_firing,
        count_if(f.label is not null and f.status <> 'unseen')::bigint as n_labelled,
        count(f.score) as n_scored,
        count_if(f.above_chance)::bigint as n_above_chance,
        coalesce(max(len(f.floors_above) + len(f.floors_not_above)), 0)::bigint as n_floors,
        case when count_if(len(f.floors_above) + len(f.floors_not_above) > 0) > 0 then count_if(f.verdict = 'above all floors')::bigint end as n_above_floors,
        count_if(f.above_chance) / nullif(count_if(f.status <> 'unseen'), 0) as above_share,
        count(*) as n_features,
        count_if(f.status = 'alive')::bigint as n_alive,
        count_if(f.status = 'unseen')::bigint as n_unseen,
        count_if(f.status = 'dense')::bigint as n_dense,
        count_if(f.n_matches > 0)::bigint as n_matched,
        median(f.score) as median_score
    from feature_cards as f
    join dictionaries as d using (dictionary_id)
    group by f.dictionary_id, f.activation_set_id
),
controls as (
    select
        c.dictionary_id,
        c.activation_set_id,
        arg_min(
            {'id': r.dictionary_id, 'share': r.above_share},
            {'width': abs(ln(c.d_sae / r.d_sae)), 'id': r.dictionary_id}
        ) as control
    from counted as c
    join counted as r using (activation_set_id)
    where r.architecture = 'random_directions' and r.n_scored > 0 and r.dictionary_id <> c.dictionary_id
    group by c.dictionary_id, c.activation_set_id
)
select
    c.dictionary_id,
    c.activation_set_id,
    c.n_firing,
    c.n_labelled,
    c.n_scored,
    c.n_above_chance,
    c.n_floors,
    c.n_above_floors,
    c.above_share,
    x.control.share as random_above_share,
    x.control.id as random_dictionary_id,
    c.n_features,
    c.n_alive,
    c.n_unseen,
    c.n_dense,
    c.n_matched,
    c.median_score
from counted as c
left join controls as x using (dictionary_id, activation_set_id)
