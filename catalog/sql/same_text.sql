-- At most five documents with a text, without those of some corpora that have an id.
select corpus_id, document_id
from documents
where text = $text and not (document_id = $document_id and list_contains($corpora, corpus_id))
order by all
limit 5
