-- The first documents of a corpus, or of the first documents of a growing one, with the beginning of their texts.
select document_id, left(text, 20000) as text
from documents
where corpus_id = $corpus_id and text is not null
order by generation nulls first, document_id
limit $limit
