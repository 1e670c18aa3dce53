-- Main figures of every dictionary on the activation set on which it was trained: reconstruction (fvu), sparsity (l0) and
-- recovered loss on eval documents, and its floors: the same of a dictionary with a random frozen decoder on that set, and
-- of the dictionary itself on a model with random weights. is_evaluated: there are metrics of eval documents.
with metrics as (
    -- A metric with several forms (hookpoints, quantiles, skip path only) has its total under the empty variant.
    select
        dictionary_id,
        activation_set_id,
        max(value) filter (where metric = 'fvu' and variant = '') as fvu,
        max(control) filter (where metric = 'fvu' and variant = '') as fvu_control,
        max(value) filter (where metric = 'fvu' and variant = 'without_massive') as fvu_without_massive,
        max(value) filter (where metric = 'l0' and variant = '') as l0,
        max(value) filter (where metric = 'ce_recovered' and variant = 'mean_ablation') as ce_recovered,
        max(note) filter (where metric = 'ce_recovered' and variant = 'mean_ablation') as ce_note,
        max(n) filter (where metric = 'fvu' and variant = '') as n_metric_tokens,
        max(n_documents) filter (where metric = 'fvu' and variant = '') as n_metric_documents,
        max(ci_low) filter (where metric = 'fvu' and variant = '') as fvu_ci_low,
        max(ci_high) filter (where metric = 'fvu' and variant = '') as fvu_ci_high
    from dictionary_metrics
    where split = 'eval'
    group by dictionary_id, activation_set_id
),
frozen as (
    -- A dictionary with a random frozen decoder on the same set: a floor that is harder than random directions.
    select d.dictionary_id, arg_min(m.fvu, {'width': abs(ln(d.d_sae / f.d_sae)), 'id': f.dictionary_id}) as fvu
    from dictionaries as d
    join dictionaries as f on f.activation_set_id = d.activation_set_id and f.dictionary_id <> d.dictionary_id
    join metrics as m on m.dictionary_id = f.dictionary_id and m.activation_set_id = f.activation_set_id
    where f.architecture = 'frozen_decoder'
    group by d.dictionary_id
),
random_sets as (
    select a.activation_set_id
    from activation_sets as a
    join models as m using (model_id)
    where m.source = 'reinitialised'
),
on_random as (
    -- The dictionary itself on a model with random weights.
    select m.dictionary_id, arg_min(m.fvu, m.activation_set_id) as fvu
    from metrics as m
    join random_sets using (activation_set_id)
    join dictionaries as d on d.dictionary_id = m.dictionary_id and d.activation_set_id <> m.activation_set_id
    group by m.dictionary_id
)
select
    d.dictionary_id,
    d.activation_set_id,
    m.fvu,
    m.fvu_control,
    m.fvu_ci_low,
    m.fvu_ci_high,
    m.fvu_without_massive,
    frozen.fvu as fvu_frozen_decoder,
    on_random.fvu as fvu_random_model,
    m.l0,
    case when r.activation_set_id is null then m.ce_recovered end as ce_recovered,
    case when r.activation_set_id is null then m.ce_note
        else 'no measure on random weights: the model predicts nothing that a reconstruction could recover' end as ce_note,
    m.dictionary_id is not null as is_evaluated,
    m.n_metric_tokens,
    m.n_metric_documents
from dictionaries as d
left join metrics as m on m.dictionary_id = d.dictionary_id and m.activation_set_id = d.activation_set_id
left join frozen on frozen.dictionary_id = d.dictionary_id
left join on_random on on_random.dictionary_id = d.dictionary_id
left join random_sets as r on r.activation_set_id = d.activation_set_id
