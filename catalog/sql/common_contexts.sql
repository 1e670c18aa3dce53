-- Positions in the texts where the strongest contexts of two features overlap.
with a as (
    select * from examples
    where dictionary_id = $dictionary_a and feature_index = $feature_a and max_activation > 0
),
b as (
    select * from examples
    where dictionary_id = $dictionary_b and feature_index = $feature_b and max_activation > 0
)
select
    a.document_id,
    a.char_start as char_start_a, a.char_end as char_end_a, a.tokens as tokens_a, a.token_ids as token_ids_a,
    a.activations as activations_a, a.peak_position as peak_a, a.max_activation as max_a, a.split as split_a,
    a.is_special as is_special_a, a.text_before as text_before_a,
    b.char_start as char_start_b, b.char_end as char_end_b, b.tokens as tokens_b, b.token_ids as token_ids_b,
    b.activations as activations_b, b.peak_position as peak_b, b.max_activation as max_b, b.split as split_b,
    b.is_special as is_special_b, b.text_before as text_before_b
from a
join b on a.document_id = b.document_id and a.char_start < b.char_end and b.char_start < a.char_end
qualify row_number() over (partition by a.document_id, a.char_start order by b.max_activation desc) = 1
order by a.max_activation * b.max_activation desc
limit 12
