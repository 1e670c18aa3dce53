-- Share of firing features of one dictionary with a mutual match in another, by density.
with one_side as (
    select distinct feature_a as feature_index from matches where mutual and dictionary_a = $dictionary_a and dictionary_b = $dictionary_b
    union
    select distinct feature_b from matches where mutual and dictionary_b = $dictionary_a and dictionary_a = $dictionary_b
)
select
    least(-1, greatest(-6, floor(log10(f.density))))::integer as decade,
    count(*) as n,
    count(o.feature_index) as n_matched
from features as f
join dictionaries as d using (dictionary_id, activation_set_id)
left join one_side as o using (feature_index)
where f.dictionary_id = $dictionary_a and f.density > 0
group by decade
order by decade
