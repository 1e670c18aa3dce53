-- At most four documents of a corpus whose ids begin with a name; the one of exactly that name first.
select document_id
from documents
where corpus_id = $corpus_id and starts_with(document_id, $name)
order by document_id <> $name, document_id
limit 4
