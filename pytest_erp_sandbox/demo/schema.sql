-- Tables shaped like Dolibarr 22's on PostgreSQL: its names, keys, triggers and foreign keys, a part of its columns.
-- Written for the demo; whoever runs it owns what it makes.

CREATE FUNCTION update_modified_column_tms() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.tms := now();
    RETURN NEW;
END
$$;

CREATE FUNCTION unix_timestamp(moment timestamp without time zone) RETURNS bigint
    LANGUAGE sql IMMUTABLE STRICT
    AS $$ SELECT extract(epoch FROM moment)::bigint $$;

-- Configuration ------------------------------------------------------------------------------------------------------

CREATE TABLE llx_const (
    rowid serial PRIMARY KEY,
    name varchar(180) NOT NULL,
    entity integer NOT NULL DEFAULT 1,
    value text NOT NULL,
    type varchar(64) DEFAULT 'string',
    visible smallint NOT NULL DEFAULT 1,
    note text,
    tms timestamp DEFAULT now()
);
CREATE UNIQUE INDEX uk_const ON llx_const (name, entity);

CREATE TABLE llx_rights_def (
    id integer NOT NULL,
    libelle varchar(255),
    module varchar(64),
    module_origin varchar(64),
    module_position integer NOT NULL DEFAULT 0,
    family_position integer NOT NULL DEFAULT 0,
    entity integer NOT NULL DEFAULT 1,
    perms varchar(50),
    subperms varchar(50),
    type varchar(1),
    bydefault smallint DEFAULT 0,
    enabled text,
    CONSTRAINT pk_rights_def PRIMARY KEY (id, entity)
);

-- Users, groups and their rights --------------------------------------------------------------------------------------

CREATE TABLE llx_user (
    rowid serial PRIMARY KEY,
    entity integer NOT NULL DEFAULT 1,
    ref_ext varchar(50),
    employee smallint DEFAULT 1,
    datec timestamp,
    tms timestamp DEFAULT now(),
    fk_user_creat integer,
    fk_user_modif integer,
    login varchar(50) NOT NULL,
    pass_crypted varchar(128),
    api_key varchar(128),
    lastname varchar(50),
    firstname varchar(50),
    job varchar(128),
    office_phone varchar(20),
    email varchar(255),
    signature text,
    admin smallint DEFAULT 0,
    fk_soc integer,
    fk_user integer,
    note_public text,
    note_private text,
    datestartvalidity timestamp,
    dateendvalidity timestamp,
    datelastlogin timestamp,
    statut smallint DEFAULT 1,
    photo varchar(255),
    lang varchar(6),
    thm numeric(24, 8),
    import_key varchar(14)
);
CREATE UNIQUE INDEX uk_user_login ON llx_user (login, entity);
CREATE UNIQUE INDEX uk_user_api_key ON llx_user (api_key);

CREATE TABLE llx_user_rights (
    rowid serial PRIMARY KEY,
    entity integer NOT NULL DEFAULT 1,
    fk_user integer NOT NULL,
    fk_id integer NOT NULL,
    CONSTRAINT fk_user_rights_fk_user_user FOREIGN KEY (fk_user) REFERENCES llx_user (rowid)
        DEFERRABLE INITIALLY IMMEDIATE
);
CREATE UNIQUE INDEX uk_user_rights ON llx_user_rights (entity, fk_user, fk_id);

-- One of Dolibarr's three tables without a primary key.
CREATE TABLE llx_user_param (
    fk_user integer NOT NULL,
    entity integer NOT NULL DEFAULT 1,
    param varchar(180) NOT NULL,
    value text NOT NULL
);
CREATE UNIQUE INDEX uk_user_param ON llx_user_param (fk_user, param, entity);

CREATE TABLE llx_usergroup (
    rowid serial PRIMARY KEY,
    nom varchar(180) NOT NULL,
    entity integer NOT NULL DEFAULT 1,
    datec timestamp,
    tms timestamp DEFAULT now(),
    note text
);
CREATE UNIQUE INDEX uk_usergroup_name ON llx_usergroup (nom, entity);

CREATE TABLE llx_usergroup_rights (
    rowid serial PRIMARY KEY,
    entity integer NOT NULL DEFAULT 1,
    fk_usergroup integer NOT NULL,
    fk_id integer NOT NULL,
    CONSTRAINT fk_usergroup_rights_fk_usergroup FOREIGN KEY (fk_usergroup) REFERENCES llx_usergroup (rowid)
        DEFERRABLE INITIALLY IMMEDIATE
);
CREATE UNIQUE INDEX uk_usergroup_rights ON llx_usergroup_rights (entity, fk_usergroup, fk_id);

CREATE TABLE llx_usergroup_user (
    rowid serial PRIMARY KEY,
    entity integer NOT NULL DEFAULT 1,
    fk_user integer NOT NULL,
    fk_usergroup integer NOT NULL,
    CONSTRAINT fk_usergroup_user_fk_user FOREIGN KEY (fk_user) REFERENCES llx_user (rowid)
        DEFERRABLE INITIALLY IMMEDIATE,
    CONSTRAINT fk_usergroup_user_fk_usergroup FOREIGN KEY (fk_usergroup) REFERENCES llx_usergroup (rowid)
        DEFERRABLE INITIALLY IMMEDIATE
);
CREATE UNIQUE INDEX uk_usergroup_user ON llx_usergroup_user (entity, fk_user, fk_usergroup);

-- Third parties, contacts, products ------------------------------------------------------------------------------------

CREATE TABLE llx_societe (
    rowid serial PRIMARY KEY,
    nom varchar(128),
    name_alias varchar(128),
    entity integer NOT NULL DEFAULT 1,
    ref_ext varchar(255),
    status smallint DEFAULT 1,
    parent integer,
    code_client varchar(24),
    code_fournisseur varchar(24),
    code_compta varchar(24),
    address varchar(255),
    zip varchar(25),
    town varchar(50),
    fk_departement integer DEFAULT 0,
    fk_pays integer DEFAULT 0,
    phone varchar(30),
    email varchar(128),
    url varchar(255),
    siren varchar(128),
    siret varchar(128),
    tva_intra varchar(20),
    client smallint DEFAULT 0,
    fournisseur smallint DEFAULT 0,
    outstanding_limit numeric(24, 8),
    note_private text,
    note_public text,
    datec timestamp,
    tms timestamp DEFAULT now(),
    fk_user_creat integer,
    fk_user_modif integer,
    import_key varchar(14)
);
CREATE UNIQUE INDEX uk_societe_code_client ON llx_societe (code_client, entity);
CREATE UNIQUE INDEX uk_societe_code_fournisseur ON llx_societe (code_fournisseur, entity);
CREATE INDEX idx_societe_nom ON llx_societe (nom);

CREATE TABLE llx_socpeople (
    rowid serial PRIMARY KEY,
    datec timestamp,
    tms timestamp DEFAULT now(),
    fk_soc integer,
    entity integer NOT NULL DEFAULT 1,
    civility varchar(6),
    lastname varchar(50),
    firstname varchar(50),
    address varchar(255),
    zip varchar(25),
    town varchar(255),
    birthday date,
    poste varchar(255),
    phone varchar(30),
    phone_mobile varchar(30),
    email varchar(255),
    priv smallint NOT NULL DEFAULT 0,
    fk_user_creat integer DEFAULT 0,
    statut smallint NOT NULL DEFAULT 1,
    CONSTRAINT fk_socpeople_fk_soc FOREIGN KEY (fk_soc) REFERENCES llx_societe (rowid)
        DEFERRABLE INITIALLY IMMEDIATE,
    CONSTRAINT fk_socpeople_user_creat_user_rowid FOREIGN KEY (fk_user_creat) REFERENCES llx_user (rowid)
        DEFERRABLE INITIALLY IMMEDIATE
);
CREATE INDEX idx_socpeople_fk_soc ON llx_socpeople (fk_soc);

CREATE TABLE llx_product (
    rowid serial PRIMARY KEY,
    ref varchar(128) NOT NULL,
    entity integer NOT NULL DEFAULT 1,
    datec timestamp,
    tms timestamp DEFAULT now(),
    fk_parent integer DEFAULT 0,
    label varchar(255) NOT NULL,
    description text,
    note_public text,
    note text,
    price numeric(24, 8) DEFAULT 0,
    price_ttc numeric(24, 8) DEFAULT 0,
    price_base_type varchar(3) DEFAULT 'HT',
    tva_tx numeric(7, 4),
    fk_user_author integer,
    fk_user_modif integer,
    tosell smallint DEFAULT 1,
    tobuy smallint DEFAULT 1,
    fk_product_type integer DEFAULT 0,
    duration varchar(6),
    stock real,
    barcode varchar(180),
    weight real
);
CREATE UNIQUE INDEX uk_product_ref ON llx_product (ref, entity);
CREATE INDEX idx_product_label ON llx_product (label);

-- Invoices -------------------------------------------------------------------------------------------------------------

CREATE TABLE llx_facture (
    rowid serial PRIMARY KEY,
    ref varchar(30) NOT NULL,
    entity integer NOT NULL DEFAULT 1,
    ref_client varchar(255),
    type smallint NOT NULL DEFAULT 0,
    fk_soc integer NOT NULL,
    datec timestamp,
    datef date,
    date_valid date,
    tms timestamp DEFAULT now(),
    paye smallint NOT NULL DEFAULT 0,
    total_tva numeric(24, 8) DEFAULT 0,
    total_ht numeric(24, 8) DEFAULT 0,
    total_ttc numeric(24, 8) DEFAULT 0,
    fk_statut smallint NOT NULL DEFAULT 0,
    fk_user_author integer,
    fk_user_modif integer,
    fk_user_valid integer,
    fk_facture_source integer,
    date_lim_reglement date,
    note_private text,
    note_public text,
    import_key varchar(14),
    CONSTRAINT fk_facture_fk_soc FOREIGN KEY (fk_soc) REFERENCES llx_societe (rowid)
        DEFERRABLE INITIALLY IMMEDIATE,
    CONSTRAINT fk_facture_fk_user_author FOREIGN KEY (fk_user_author) REFERENCES llx_user (rowid)
        DEFERRABLE INITIALLY IMMEDIATE,
    CONSTRAINT fk_facture_fk_user_valid FOREIGN KEY (fk_user_valid) REFERENCES llx_user (rowid)
        DEFERRABLE INITIALLY IMMEDIATE,
    CONSTRAINT fk_facture_source_fk_facture FOREIGN KEY (fk_facture_source) REFERENCES llx_facture (rowid)
        DEFERRABLE INITIALLY IMMEDIATE
);
CREATE UNIQUE INDEX uk_facture_ref ON llx_facture (ref, entity);
CREATE INDEX idx_facture_fk_soc ON llx_facture (fk_soc);

CREATE TABLE llx_facturedet (
    rowid serial PRIMARY KEY,
    fk_facture integer NOT NULL,
    fk_parent_line integer,
    fk_product integer,
    label varchar(255),
    description text,
    tva_tx numeric(7, 4),
    qty real,
    remise_percent real DEFAULT 0,
    subprice numeric(24, 8),
    total_ht numeric(24, 8),
    total_tva numeric(24, 8),
    total_ttc numeric(24, 8),
    product_type integer DEFAULT 0,
    date_start timestamp,
    date_end timestamp,
    rang integer DEFAULT 0,
    import_key varchar(14),
    CONSTRAINT fk_facturedet_fk_facture_facture FOREIGN KEY (fk_facture) REFERENCES llx_facture (rowid)
        DEFERRABLE INITIALLY IMMEDIATE
);
CREATE INDEX idx_facturedet_fk_facture ON llx_facturedet (fk_facture);
CREATE INDEX idx_facturedet_fk_product ON llx_facturedet (fk_product);

-- Agenda, documents, and what talks to the outside world ------------------------------------------------------------------

CREATE TABLE llx_actioncomm (
    id serial PRIMARY KEY,
    ref varchar(30) NOT NULL,
    entity integer NOT NULL DEFAULT 1,
    datep timestamp,
    datep2 timestamp,
    code varchar(50),
    datec timestamp,
    tms timestamp DEFAULT now(),
    fk_user_author integer,
    fk_soc integer,
    fk_contact integer,
    fk_parent integer NOT NULL DEFAULT 0,
    fk_user_action integer,
    label varchar(255) NOT NULL,
    note text,
    fulldayevent smallint NOT NULL DEFAULT 0,
    percent smallint NOT NULL DEFAULT 0,
    location varchar(128),
    fk_element integer,
    elementtype varchar(255)
);
CREATE UNIQUE INDEX uk_actioncomm_ref ON llx_actioncomm (ref, entity);
CREATE INDEX idx_actioncomm_fk_soc ON llx_actioncomm (fk_soc);

CREATE TABLE llx_cronjob (
    rowid serial PRIMARY KEY,
    tms timestamp DEFAULT now(),
    datec timestamp,
    jobtype varchar(10) NOT NULL,
    label varchar(255) NOT NULL,
    command varchar(255),
    classesname varchar(255),
    objectname varchar(255),
    methodename varchar(255),
    params text,
    module_name varchar(255),
    priority integer DEFAULT 0,
    datelastrun timestamp,
    datenextrun timestamp,
    unitfrequency varchar(255) NOT NULL DEFAULT '3600',
    frequency integer NOT NULL DEFAULT 0,
    nbrun integer,
    status integer NOT NULL DEFAULT 1,
    processing integer NOT NULL DEFAULT 0,
    note text,
    entity integer DEFAULT 0
);
CREATE UNIQUE INDEX uk_cronjob ON llx_cronjob (label, entity);

CREATE TABLE llx_notify_def (
    rowid serial PRIMARY KEY,
    tms timestamp DEFAULT now(),
    datec date,
    fk_action integer NOT NULL,
    fk_soc integer,
    fk_contact integer,
    fk_user integer,
    email varchar(255),
    type varchar(16) DEFAULT 'email'
);

CREATE TABLE llx_webhook_target (
    rowid serial PRIMARY KEY,
    ref varchar(128) NOT NULL,
    label varchar(255),
    date_creation timestamp NOT NULL,
    tms timestamp DEFAULT now(),
    fk_user_creat integer NOT NULL,
    status integer NOT NULL DEFAULT 0,
    url varchar(255) NOT NULL,
    connection_method varchar(255),
    connection_data varchar(255),
    trigger_codes text
);
CREATE INDEX idx_webhook_target_status ON llx_webhook_target (status);

CREATE TABLE llx_emailcollector_emailcollector (
    rowid serial PRIMARY KEY,
    entity integer NOT NULL DEFAULT 1,
    ref varchar(128) NOT NULL,
    label varchar(255),
    host varchar(255),
    port varchar(10) DEFAULT '993',
    login varchar(128),
    password varchar(128),
    source_directory varchar(255) NOT NULL DEFAULT 'Inbox',
    date_creation timestamp NOT NULL,
    tms timestamp DEFAULT now(),
    fk_user_creat integer NOT NULL,
    status integer NOT NULL
);
CREATE UNIQUE INDEX uk_emailcollector_emailcollector_ref ON llx_emailcollector_emailcollector (ref, entity);

CREATE TABLE llx_oauth_token (
    rowid serial PRIMARY KEY,
    service varchar(36),
    token text,
    tokenstring text,
    state text,
    fk_soc integer,
    fk_user integer,
    fk_adherent integer,
    restricted_ips varchar(200),
    datec timestamp,
    tms timestamp DEFAULT now(),
    entity integer DEFAULT 1
);

CREATE TABLE llx_ecm_files (
    rowid serial PRIMARY KEY,
    ref varchar(128),
    label varchar(128) NOT NULL,
    entity integer NOT NULL DEFAULT 1,
    filepath varchar(255) NOT NULL,
    filename varchar(255) NOT NULL,
    src_object_type varchar(64),
    src_object_id integer,
    description text,
    position integer,
    gen_or_uploaded varchar(12),
    date_c timestamp,
    tms timestamp DEFAULT now(),
    fk_user_c integer
);
CREATE UNIQUE INDEX uk_ecm_files ON llx_ecm_files (filepath, filename, entity);

-- Every table with a tms has the same trigger, as in Dolibarr.
DO $$
DECLARE
    dolibarr_table text;
BEGIN
    FOR dolibarr_table IN
        SELECT table_name FROM information_schema.columns
        WHERE table_schema = current_schema() AND column_name = 'tms' AND table_name LIKE 'llx\_%'
        ORDER BY table_name
    LOOP
        EXECUTE format(
            'CREATE TRIGGER update_customer_modtime BEFORE UPDATE ON %I'
            ' FOR EACH ROW EXECUTE FUNCTION update_modified_column_tms()', dolibarr_table);
    END LOOP;
END
$$;
