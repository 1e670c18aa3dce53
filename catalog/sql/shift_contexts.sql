-- For each of some features the strongest context on both sides of a comparison. With $label only documents with the value
-- of the side count; with $newest those that came last into a growing corpus are side b, and all earlier ones side a.
with sides as (
    select 'a' as side, $set_a as activation_set_id, $value_a::varchar as wanted
    union all
    select 'b', $set_b, $value_b::varchar
),
found as (
    select
        s.side, e.feature_index, e.tokens, e.peak_position, e.max_activation, e.document_id,
        row_number() over (
            partition by s.side, e.feature_index order by e.max_activation desc, e.document_id, e.char_start
        ) as place
    from examples as e
    join sides as s using (activation_set_id)
    left join activation_sets as a using (activation_set_id)
    left join corpora as c on c.corpus_id = a.corpus_id
    left join documents as d on d.corpus_id = a.corpus_id and d.document_id = e.document_id
    where
        e.dictionary_id = $dictionary_id
        and list_contains($feature_indices::integer[], e.feature_index)
        and e.max_activation > 0
        and ($label::varchar is null or d.labels[$label::varchar] = s.wanted)
        and (not $newest::boolean or (d.generation = c.n_generations) = (s.side = 'b'))
)
select side, feature_index, tokens, peak_position, max_activation, document_id
from found
where place = 1
order by feature_index, side
