-- One row per dictionary: size, fidelity on eval documents, coverage by labels, labels above chance, and the share of
-- labels of random directions above chance on the same activation set. n_above_floors: labels above all floors.
with frozen as (
    -- A dictionary with a random frozen decoder on the same set: a floor that is harder than random directions.
    select
        d.dictionary_id, arg_min(q.above_share, {'width': abs(ln(d.d_sae / f.d_sae)), 'id': f.dictionary_id}) as above_share
    from dictionaries as d
    join dictionaries as f on f.activation_set_id = d.activation_set_id and f.dictionary_id <> d.dictionary_id
    join dictionary_fidelity as m on m.dictionary_id = f.dictionary_id and m.is_evaluated
    join label_quality as q on q.dictionary_id = f.dictionary_id and q.n_scored > 0
    where f.architecture = 'frozen_decoder'
    group by d.dictionary_id
)
select
    d.dictionary_id,
    d.alias,
    d.reads[1].model_id as model_id,
    d.reads[1].hookpoint as hookpoint,
    d.reads,
    d.writes,
    d.unit_type,
    d.architecture,
    d.config,
    d.d_in,
    d.d_sae,
    d.origin,
    d.verified,
    d.created_at,
    d.activation_set_id,
    d.parent_dictionary_id,
    coalesce(current.dictionary_id is null or current.dictionary_id = d.dictionary_id, true) as is_current,
    coalesce(q.n_features, 0) as n_features,
    coalesce(q.n_alive, 0) as n_alive,
    coalesce(q.n_unseen, 0) as n_unseen,
    coalesce(q.n_dense, 0) as n_dense,
    coalesce(q.n_labelled, 0) as n_labelled,
    coalesce(q.n_scored, 0) as n_scored,
    coalesce(q.n_above_chance, 0) as n_above_chance,
    coalesce(q.n_floors, 0) as n_floors,
    q.n_above_floors,
    q.random_above_share,
    q.random_dictionary_id,
    frozen.above_share as frozen_above_share,
    -- Null if it was never compared: 0 would mean that no feature was found again.
    case when d.dictionary_id in (select dictionary_id from compared_dictionaries) then coalesce(q.n_matched, 0) end
        as n_matched,
    q.median_score,
    m.fvu,
    m.fvu_control,
    m.fvu_frozen_decoder,
    m.fvu_random_model,
    m.fvu_without_massive,
    m.l0,
    m.ce_recovered,
    m.ce_note,
    m.n_metric_tokens,
    m.n_metric_documents,
    m.fvu_ci_low,
    m.fvu_ci_high,
    -- One massive token can hold half of the variance, so dictionaries with such tokens are ranked without them.
    coalesce(m.fvu_without_massive, m.fvu) as fvu_ranked,
    case when m.fvu_without_massive is null then 'all tokens' else 'without massive tokens' end as fvu_ranked_by
from dictionaries as d
left join label_quality as q on q.dictionary_id = d.dictionary_id
left join dictionary_fidelity as m on m.dictionary_id = d.dictionary_id
left join frozen on frozen.dictionary_id = d.dictionary_id
left join current_aliases as current on current.alias = d.alias
order by is_current desc, model_id, hookpoint, d.alias, d.created_at desc
