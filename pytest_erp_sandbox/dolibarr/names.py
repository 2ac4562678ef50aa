"""What Dolibarr calls its tables elsewhere: in the names of columns, and as the type of an element."""

from __future__ import annotations

__all__ = ["TABLE_CALLED"]

_CALLED = """
societe soc thirdparty company customer client supplier fournisseur
socpeople contact people
user author
projet project
projet_task task project_task
facture invoice
facture_fourn invoice_supplier
commande order
commande_fournisseur order_supplier
contrat contract
entrepot warehouse
bank_account account
expedition shipping
categorie category
c_ action availability barcode code cond country currency departement effectif forme incoterms input mode pays
c_ prospectlevel region state status statut stcomm type typent unit shipping_method
"""
TABLE_CALLED = {alias: name for name, *aliases in map(str.split, _CALLED.strip().splitlines()) for alias in aliases}
"""Tables, by what Dolibarr calls them in columns' names, and as an element's type.

"c_" stands for lists that come with it: their small keys are not to be taken for those of new rows."""
