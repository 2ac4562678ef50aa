"""Names and types that Dolibarr's tables are made of, for the generator."""

from __future__ import annotations

__all__ = ["COLUMNS", "HUBS", "MODULES", "PARTS", "WITHOUT_KEY"]

_MODULES = """
    accounting adherent asset bank bom contrat delivery don ecm emailcollector eventorganization expedition
    expensereport fichinter holiday hrm inventory knowledgemanagement loan mailing mrp opensurvey partnership
    payment product projet propal reception recruitment resource stock supplier_proposal ticket website workstation
"""
MODULES = tuple(_MODULES.split())
PARTS = ("line", "extrafields", "category", "type", "model", "element_contact", "history", "rate", "link")

WITHOUT_KEY = ("llx_user_param", "llx_category_bankline", "llx_holiday_users")
"""The tables that have no primary key."""

HUBS = ("llx_user", "llx_societe", "llx_product", "llx_facture")
"""Where half of the foreign keys lead."""

_COLUMNS = {
    "varchar(128)": "ref ref_ext ref_client code label_short model_pdf elementtype lang zip town phone email url",
    "varchar(255)": "label title subject address filename filepath last_main_doc extraparams ip",
    "varchar(14)": "import_key",
    "text": "description note_public note_private params content message",
    "integer DEFAULT 1 NOT NULL": "entity",
    "integer": "fk_user_author fk_user_modif fk_user_valid fk_projet fk_mode_reglement fk_cond_reglement fk_account"
    " fk_multicurrency fk_departement fk_incoterms position rang nb_hours",
    "smallint DEFAULT 0 NOT NULL": "fk_statut active priv closed printed",
    "numeric(24,8) DEFAULT 0": "amount total_ht total_tva total_ttc localtax1 localtax2 multicurrency_total_ht"
    " multicurrency_total_ttc price cost_price weight volume",
    "numeric(7,4) DEFAULT 0": "tva_tx remise_percent",
    "timestamp": "datec date_creation date_valid date_start date_end date_cloture",
    "date": "dater datef date_livraison",
}
COLUMNS = tuple((name, kind) for kind, names in _COLUMNS.items() for name in names.split())
"""Each column's name and type."""
