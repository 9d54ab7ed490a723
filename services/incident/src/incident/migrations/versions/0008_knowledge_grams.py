"""Knowledge is found by parts of words: the grams of each entry, written by the service, and the entries that lack them."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Constant defaults: no row is rewritten. The service indexes existing entries in the background, and those that the
    # version before this one writes or changes meanwhile.
    op.execute("""
        ALTER TABLE knowledge
            ADD COLUMN search_text text NOT NULL DEFAULT '',
            ADD COLUMN grams tsvector NOT NULL DEFAULT ''::tsvector,
            ADD COLUMN indexed_digest text NOT NULL DEFAULT ''
    """)
    # Without a pending list: every term of a query would read it from end to end.
    op.execute("CREATE INDEX knowledge_grams ON knowledge USING gin (grams) WITH (fastupdate = off)")
    op.execute("ALTER INDEX knowledge_search SET (fastupdate = off)")
    op.execute("""
        CREATE INDEX knowledge_unindexed ON knowledge (knowledge_id)
        WHERE indexed_digest <> md5(symptoms || E'\\n' || resolution)
    """)
    op.execute("SELECT gin_clean_pending_list('knowledge_search')")


def downgrade() -> None:
    op.execute("ALTER INDEX knowledge_search RESET (fastupdate)")
    op.execute("DROP INDEX knowledge_unindexed, knowledge_grams")
    op.execute("ALTER TABLE knowledge DROP COLUMN indexed_digest, DROP COLUMN grams, DROP COLUMN search_text")
