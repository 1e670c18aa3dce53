-- The scores that say what the labels of a dictionary on a set are compared with: its own (floor is null) and those of its
-- floors, nearest in width first. One row per unit of work that scored, with the number and the sum of its values, which
-- tell whether they changed. Floors: dictionaries of random directions and with a frozen decoder on the same set; and
-- on the same model with random weights, dictionaries of the same architecture that were trained there, else the
-- dictionary itself.
with sets as (
    select a.activation_set_id, a.model_id, a.hookpoint, a.corpus_id, m.source, m.parent_model_id
    from activation_sets as a
    left join models as m using (model_id)
),
own as (
    select d.dictionary_id, d.architecture, d.d_sae, s.*
    from dictionaries as d
    join sets as s on s.activation_set_id = $activation_set_id
    where d.dictionary_id = $dictionary_id
),
sources as (
    select null as floor, dictionary_id, activation_set_id, 0.0 as distance from own
    union all
    select f.architecture, f.dictionary_id, own.activation_set_id, abs(ln(own.d_sae / f.d_sae))
    from own
    join dictionaries as f on f.architecture in ('random_directions', 'frozen_decoder')
    where f.architecture <> own.architecture
    union all
    select 'random_weights', f.dictionary_id, s.activation_set_id,
        case when f.dictionary_id = own.dictionary_id then 1000.0 else abs(ln(own.d_sae / f.d_sae)) end
    from own
    join sets as s on s.parent_model_id = own.model_id and s.hookpoint = own.hookpoint and s.corpus_id = own.corpus_id
    join dictionaries as f on f.dictionary_id = own.dictionary_id or f.architecture = own.architecture
    where s.source = 'reinitialised'
)
select
    s.floor, s.dictionary_id, s.activation_set_id, o.fingerprint, count(o.value) as n,
    sum(round(o.value * 1e9)::hugeint)::varchar as total
from sources as s
join scores as o using (dictionary_id, activation_set_id)
group by s.floor, s.distance, s.dictionary_id, s.activation_set_id, o.fingerprint
order by s.floor nulls first, s.distance, s.dictionary_id, s.activation_set_id, o.fingerprint
