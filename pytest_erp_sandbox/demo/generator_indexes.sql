-- The indexes that Dolibarr has on the tables that grow; the demo itself goes without them.
CREATE INDEX IF NOT EXISTS idx_societe_user_creat ON llx_societe (fk_user_creat);
CREATE INDEX IF NOT EXISTS idx_societe_user_modif ON llx_societe (fk_user_modif);
CREATE INDEX IF NOT EXISTS idx_societe_fk_pays ON llx_societe (fk_pays);
CREATE INDEX IF NOT EXISTS idx_facture_fk_user_author ON llx_facture (fk_user_author);
CREATE INDEX IF NOT EXISTS idx_facture_fk_user_valid ON llx_facture (fk_user_valid);
CREATE INDEX IF NOT EXISTS idx_facture_fk_facture_source ON llx_facture (fk_facture_source);
CREATE INDEX IF NOT EXISTS idx_facture_fk_statut ON llx_facture (fk_statut);
CREATE INDEX IF NOT EXISTS idx_facture_datef ON llx_facture (datef);
CREATE INDEX IF NOT EXISTS idx_actioncomm_datec ON llx_actioncomm (datec);
CREATE INDEX IF NOT EXISTS idx_actioncomm_datep ON llx_actioncomm (datep);
CREATE INDEX IF NOT EXISTS idx_actioncomm_datep2 ON llx_actioncomm (datep2);
CREATE INDEX IF NOT EXISTS idx_actioncomm_fk_contact ON llx_actioncomm (fk_contact);
CREATE INDEX IF NOT EXISTS idx_actioncomm_code ON llx_actioncomm (code);
CREATE INDEX IF NOT EXISTS idx_actioncomm_fk_element ON llx_actioncomm (fk_element);
CREATE INDEX IF NOT EXISTS idx_actioncomm_percent ON llx_actioncomm (percent);
