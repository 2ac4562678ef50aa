-- A small firm's books for the tables of schema.sql. Nobody in here exists.
-- prod's unique id, under which alice's key and the mail password are encrypted: c0ffee5eed0f9a17b2d4e6f8091a3b5c

INSERT INTO llx_const (name, entity, value, type, visible, note) VALUES
    ('MAIN_VERSION_LAST_INSTALL', 0, '22.0.4', 'chaine', 0, 'Dolibarr version when install'),
    ('MAIN_MODULE_USER', 0, '1', 'string', 0, NULL),
    ('MAIN_MODULE_API', 1, '1', 'string', 0, NULL),
    ('MAIN_MODULE_SOCIETE', 1, '1', 'string', 0, NULL),
    ('MAIN_MODULE_FACTURE', 1, '1', 'string', 0, NULL),
    ('MAIN_MODULE_PRODUCT', 1, '1', 'string', 0, NULL),
    ('MAIN_MODULE_COMMANDE', 1, '1', 'string', 0, NULL),
    ('MAIN_MODULE_AGENDA', 1, '1', 'string', 0, NULL),
    ('MAIN_MODULE_CRON', 1, '1', 'string', 0, NULL),
    ('MAIN_MODULE_WEBSERVICES', 1, '1', 'string', 0, NULL),
    ('MAIN_INFO_SOCIETE_NOM', 1, 'Crêperie de l''Île & Fils', 'chaine', 0, NULL),
    ('MAIN_INFO_SOCIETE_COUNTRY', 1, '1:FR:France', 'chaine', 0, NULL),
    ('MAIN_INFO_SOCIETE_LOGO', 1, 'creperie.png', 'chaine', 0, NULL),
    ('MAIN_MONNAIE', 1, 'EUR', 'chaine', 0, NULL),
    ('MAIN_LANG_DEFAULT', 1, 'fr_FR', 'chaine', 0, NULL),
    ('MAIN_MAIL_SENDMODE', 1, 'smtps', 'chaine', 0, NULL),
    ('MAIN_MAIL_SMTP_SERVER', 1, 'smtp.prod.example', 'chaine', 0, NULL),
    ('MAIN_MAIL_SMTPS_PW', 1, 'dolcrypt:AES-256-CTR:4d1a9be03c7f5268:HLZ/yk3cxwWca9H6psts3XcICUHP', 'chaine', 0, NULL),
    ('MAIN_MAIL_SMTPS_ID', 1, 'erp@creperie.example', 'chaine', 0, NULL),
    ('MAIN_MAIL_SENDMODE_EMAILING', 1, 'mail', 'chaine', 0, NULL),
    ('MAIN_MAIL_SMTP_SERVER_EMAILING', 1, 'bulk.prod.example', 'chaine', 0, NULL),
    ('MAIN_DISABLE_ALL_MAILS', 1, '0', 'chaine', 0, NULL),
    ('NOTIFICATION_FIXEDEMAIL_BILL_VALIDATE_THRESHOLD_HIGHER_1000', 1, 'alice@creperie.example', 'chaine', 0, NULL),
    ('CRON_KEY', 1, 'prod-cron-key-3c9e', 'chaine', 0, NULL),
    ('STRIPE_LIVE', 1, '1', 'chaine', 0, NULL),
    ('STRIPE_LIVE_PUBLISHABLE_KEY', 1, 'pk_live_prod', 'chaine', 0, NULL),
    ('STRIPE_LIVE_SECRET_KEY', 1, 'dolcrypt:AES-256-CTR:4d1a9be03c7f5268:HLZ/yk3cxwWca9H6psts3XcICUHP', 'chaine', 0, NULL),
    ('PAYPAL_API_SANDBOX', 1, '0', 'chaine', 0, NULL),
    ('PAYPAL_API_SIGNATURE', 1, 'prod-paypal-signature-91', 'chaine', 0, NULL),
    ('OAUTH_GOOGLE_SECRET', 1, 'prod-oauth-secret-5f', 'chaine', 0, NULL),
    ('WEBSERVICES_KEY', 1, 'prod-webservices-key-08', 'chaine', 0, NULL),
    ('MAIN_APPLICATION_TITLE', 1, 'Crêperie', 'chaine', 0, NULL),
    ('FACTURE_ADDON', 1, 'mod_facture_terre', 'chaine', 0, NULL),
    ('SOCIETE_CODECLIENT_ADDON', 1, 'mod_codeclient_monkey', 'chaine', 0, NULL);

INSERT INTO llx_rights_def (id, module, perms, subperms, type, bydefault, libelle) VALUES
    (11, 'facture', 'lire', NULL, 'r', 0, 'Read invoices'),
    (12, 'facture', 'creer', NULL, 'w', 0, 'Create and update invoices'),
    (13, 'facture', 'invoice_advance', 'unvalidate', 'w', 0, 'Devalidate invoices'),
    (14, 'facture', 'invoice_advance', 'validate', 'w', 0, 'Validate invoices'),
    (15, 'facture', 'invoice_advance', 'send', 'w', 0, 'Send invoices by email'),
    (16, 'facture', 'paiement', NULL, 'w', 0, 'Issue payments on invoices'),
    (19, 'facture', 'supprimer', NULL, 'd', 0, 'Delete invoices'),
    (1321, 'facture', 'facture', 'export', 'r', 0, 'Export customer invoices, attributes and payments'),
    (31, 'produit', 'lire', NULL, 'r', 0, 'Read products'),
    (32, 'produit', 'creer', NULL, 'w', 0, 'Create and update products'),
    (34, 'produit', 'supprimer', NULL, 'd', 0, 'Delete products'),
    (38, 'produit', 'export', NULL, 'r', 0, 'Export products'),
    (81, 'commande', 'lire', NULL, 'r', 0, 'Read sales orders'),
    (82, 'commande', 'creer', NULL, 'w', 0, 'Create and update sales orders'),
    (84, 'commande', 'order_advance', 'validate', 'd', 0, 'Validate sales orders'),
    (86, 'commande', 'order_advance', 'send', 'd', 0, 'Send sales orders by email'),
    (87, 'commande', 'order_advance', 'close', 'd', 0, 'Close sales orders'),
    (88, 'commande', 'order_advance', 'annuler', 'd', 0, 'Cancel sales orders'),
    (89, 'commande', 'supprimer', NULL, 'd', 0, 'Delete sales orders'),
    (1421, 'commande', 'commande', 'export', 'r', 0, 'Export sales orders and attributes'),
    (121, 'societe', 'lire', NULL, 'r', 0, 'Read third parties'),
    (122, 'societe', 'creer', NULL, 'w', 0, 'Create and update third parties'),
    (125, 'societe', 'supprimer', NULL, 'd', 0, 'Delete third parties'),
    (126, 'societe', 'export', NULL, 'r', 0, 'Export third parties'),
    (130, 'societe', 'thirdparty_paymentinformation_advance', 'write', 'w', 0, 'Modify payment information'),
    (262, 'societe', 'client', 'voir', 'r', 0, 'Read all third parties, not only one''s own'),
    (281, 'societe', 'contact', 'lire', 'r', 0, 'Read contacts'),
    (282, 'societe', 'contact', 'creer', 'w', 0, 'Create and update contacts'),
    (283, 'societe', 'contact', 'supprimer', 'd', 0, 'Delete contacts'),
    (286, 'societe', 'contact', 'export', 'd', 0, 'Export contacts'),
    (251, 'user', 'user', 'lire', 'r', 0, 'Read information of other users, groups and permissions'),
    (252, 'user', 'user_advance', 'readperms', 'r', 0, 'Read permissions of other users'),
    (253, 'user', 'user', 'creer', 'w', 0, 'Create and update other users, groups and permissions'),
    (254, 'user', 'user_advance', 'write', 'w', 0, 'Create and update external users only'),
    (255, 'user', 'user', 'password', 'w', 0, 'Modify the password of other users'),
    (256, 'user', 'user', 'supprimer', 'd', 0, 'Delete or disable other users'),
    (341, 'user', 'self_advance', 'readperms', 'r', 0, 'Read one''s own permissions'),
    (342, 'user', 'self', 'creer', 'w', 1, 'Create and update one''s own user card'),
    (343, 'user', 'self', 'password', 'w', 1, 'Modify one''s own password'),
    (344, 'user', 'self_advance', 'writeperms', 'w', 0, 'Modify one''s own permissions'),
    (351, 'user', 'group_advance', 'read', 'r', 0, 'Read groups'),
    (358, 'user', 'user', 'export', 'r', 0, 'Export users'),
    (2401, 'agenda', 'myactions', 'read', 'r', 0, 'Read actions and tasks linked to one''s account'),
    (2402, 'agenda', 'myactions', 'create', 'w', 0, 'Create and modify actions linked to one''s account'),
    (2403, 'agenda', 'myactions', 'delete', 'w', 0, 'Delete actions linked to one''s account'),
    (2411, 'agenda', 'allactions', 'read', 'r', 0, 'Read actions of others'),
    (2412, 'agenda', 'allactions', 'create', 'w', 0, 'Create and modify actions of others'),
    (2413, 'agenda', 'allactions', 'delete', 'w', 0, 'Delete actions of others'),
    (2414, 'agenda', 'export', NULL, 'w', 0, 'Export actions of others');

-- The admin's key is from before Dolibarr 18: stored as it is.
INSERT INTO llx_user (entity, login, api_key, lastname, firstname, email, admin, statut, lang, datec) VALUES
    (0, 'admin', 'prod-key-of-admin-5d80a4', 'SuperAdmin', NULL, 'admin@creperie.example', 1, 1, 'fr_FR',
        '2019-03-04 09:12:00'),
    (1, 'alice', 'dolcrypt:AES-256-CTR:10fbb3f05469219f:wMqR8xZvhgDzoMTWKAy2oUoZcZ2SbYJN', 'Le Goff', 'Alice',
        'alice@creperie.example', 0, 1, 'fr_FR', '2019-03-04 09:30:00'),
    (1, 'björn', NULL, 'Ångström', 'Björn', 'bjorn@creperie.example', 0, 1, 'sv_SE', '2021-11-15 14:00:00'),
    (1, 'zoé', NULL, 'D''Aubigné', 'Zoé', 'zoe@creperie.example', 0, 0, 'fr_FR', '2020-06-01 08:00:00');

INSERT INTO llx_usergroup (nom, datec, note) VALUES
    ('Comptabilité', '2019-03-04 10:00:00', 'Invoices and payments'),
    ('Ventes', '2019-03-04 10:00:00', NULL);

INSERT INTO llx_usergroup_rights (fk_usergroup, fk_id) VALUES
    (1, 11), (1, 12), (1, 14), (1, 16), (1, 121), (2, 31), (2, 121), (2, 122);

INSERT INTO llx_usergroup_user (fk_user, fk_usergroup) VALUES (2, 1), (3, 2), (4, 2);

INSERT INTO llx_user_rights (fk_user, fk_id) VALUES
    (1, 251), (1, 253), (1, 256), (2, 11), (2, 12), (2, 14), (2, 31), (2, 121), (2, 122), (2, 281), (2, 282), (2, 342),
    (3, 31), (3, 121), (3, 342), (4, 121);

INSERT INTO llx_user_param (fk_user, param, value) VALUES
    (1, 'MAIN_THEME', 'eldy'),
    (2, 'MAIN_LANG_DEFAULT', 'fr_FR'),
    (2, 'MAIN_SIZE_LISTE_LIMIT', '50'),
    (3, 'MAIN_LANG_DEFAULT', 'sv_SE');

INSERT INTO llx_societe (nom, name_alias, code_client, code_fournisseur, address, zip, town, fk_pays, phone, email,
        tva_intra, client, fournisseur, note_private, datec, fk_user_creat) VALUES
    ('Café de la Gare', NULL, 'CU1903-00001', NULL, '1, place de la Gare', '29200', 'Brest', 1, '+33 2 98 00 00 01',
        'contact@cafe-gare.example', 'FR00000000001', 1, 0, NULL, '2019-03-11 10:00:00', 2),
    ('L''Atelier d''Élodie', 'Élodie', 'CU1903-00002', NULL, '12 bis, rue de l''Église', '35000', 'Rennes', 1,
        '+33 2 99 00 00 02', 'elodie@atelier.example', NULL, 1, 0, 'Pays late; "très gentille"', '2019-03-18 11:20:00', 2),
    ('Müller & Söhne GmbH', NULL, 'CU1905-00003', NULL, 'Königstraße 5', '70173', 'Stuttgart', 5, '+49 711 000003',
        'einkauf@mueller-soehne.example', 'DE000000003', 1, 0, NULL, '2019-05-02 09:00:00', 2),
    ('Łódź Cukiernia Sp. z o.o.', NULL, 'CU1909-00004', NULL, 'ul. Piotrkowska 104', '90-926', 'Łódź', 184, NULL,
        'biuro@cukiernia.example', 'PL0000000004', 1, 0, NULL, '2019-09-09 09:09:09', 2),
    ('東京クレープ株式会社', 'Tokyo Crêpe', 'CU2001-00005', NULL, '千代田区丸の内1-1', '100-0005', '東京', 123, NULL,
        'info@tokyo-crepe.example', NULL, 1, 0, 'Note on
two lines, and a back\slash', '2020-01-20 03:00:00', 1),
    ('Moulin de Kérouat', NULL, NULL, 'SU1903-00001', 'Kérouat', '29450', 'Commana', 1, '+33 2 98 00 00 06',
        'farine@moulin-kerouat.example', 'FR00000000006', 0, 1, NULL, '2019-03-12 16:40:00', 2),
    ('Laiterie Ster ar C''hoad', NULL, NULL, 'SU1904-00002', '3, hent ar C''hoad', '29190', 'Pleyben', 1, NULL,
        'beurre@laiterie.example', NULL, 0, 1, NULL, '2019-04-01 07:30:00', 2),
    ('Brasserie "Le Menhir"', NULL, 'CU2006-00006', 'SU2006-00003', '8, quai du Léon', '29600', 'Morlaix', 1, NULL,
        'menhir@brasserie.example', NULL, 1, 1, NULL, '2020-06-15 18:05:00', 2),
    ('Ñandú Importaciones S.L.', NULL, 'CU2102-00007', NULL, 'Calle Alcalá, 42', '28014', 'Madrid', 4, '+34 910 000 009',
        'pedidos@nandu.example', 'ES00000009', 1, 0, NULL, '2021-02-27 12:00:00', 3),
    ('Кафе «Берёзка»', NULL, 'CU2203-00008', NULL, NULL, NULL, NULL, 0, NULL, NULL, NULL, 2, 0, NULL,
        '2022-03-03 12:30:00', 3),
    ('O''Brien; DROP TABLE llx_societe;--', 'Bobby', 'CU2310-00009', NULL, '1 Main St.', 'D01', 'Dublin', 8, NULL,
        'bobby@obrien.example', NULL, 1, 0, 'Imported as it was', '2023-10-10 10:10:10', 1),
    ('Crêpes 🥞 & Galettes', NULL, 'CU2407-00010', NULL, '100 % blé noir', '56000', 'Vannes', 1, NULL,
        'bonjour@crepes-galettes.example', NULL, 3, 0, NULL, '2024-07-14 14:07:00', 2);

INSERT INTO llx_socpeople (fk_soc, civility, lastname, firstname, poste, phone, email, fk_user_creat, datec) VALUES
    (1, 'MME', 'Kerdoncuff', 'Anne-Gaëlle', 'Gérante', '+33 6 00 00 00 01', 'ag@cafe-gare.example', 2,
        '2019-03-11 10:05:00'),
    (3, 'DR', 'Müller', 'Jörg', 'Einkauf', '+49 171 000003', 'joerg@mueller-soehne.example', 2, '2019-05-02 09:10:00'),
    (5, NULL, '佐藤', '健', NULL, NULL, 'sato@tokyo-crepe.example', 1, '2020-01-20 03:10:00'),
    (6, 'MR', 'L''Hostis', 'Yann', 'Meunier', NULL, NULL, 2, '2019-03-12 16:45:00'),
    (NULL, 'MR', 'Sansentreprise', 'Noé', NULL, NULL, 'noe@example.com', 2, '2021-08-08 08:08:00');

INSERT INTO llx_product (ref, label, description, price, price_ttc, tva_tx, fk_product_type, tobuy, stock, barcode,
        fk_user_author, datec) VALUES
    ('CREPE-SUCRE', 'Crêpe au sucre', 'Froment, sucre, beurre salé', 2.50, 2.6375, 5.5, 0, 0, 120, '0000000000017', 2,
        '2019-03-05 09:00:00'),
    ('CREPE-CARAMEL', 'Crêpe caramel « maison »', NULL, 3.80, 4.009, 5.5, 0, 0, 80, '0000000000024', 2,
        '2019-03-05 09:05:00'),
    ('GALETTE-COMPLETE', 'Galette complète', 'Œuf, jambon, emmental', 6.90, 7.2795, 5.5, 0, 0, 60, '0000000000031', 2,
        '2019-03-05 09:10:00'),
    ('CIDRE-75', 'Cidre brut 75 cl', '5 % vol.', 7.50, 9.00, 20, 0, 1, 240, '0000000000048', 2, '2019-03-05 09:15:00'),
    ('FARINE-25', 'Farine de blé noir, sac de 25 kg', NULL, 41.20, 43.466, 5.5, 0, 1, 12.5, NULL, 2,
        '2019-03-05 09:20:00'),
    ('BILIG-40', 'Bilig ⌀ 40 cm, 3,5 kW', 'Professional griddle', 489.00, 586.80, 20, 0, 1, 3, '0000000000062', 2,
        '2019-06-01 10:00:00'),
    ('ATELIER-1H', 'Atelier crêpes (1 h)', 'Per group, up to 12 people', 90.00, 108.00, 20, 1, 0, NULL, NULL, 2,
        '2019-06-01 10:10:00'),
    ('LIVRAISON', 'Livraison', 'Within 30 km', 12.00, 14.40, 20, 1, 0, NULL, NULL, 2, '2019-06-01 10:20:00');

-- Totals follow from the lines below.
INSERT INTO llx_facture (ref, ref_client, fk_soc, datec, datef, date_valid, date_lim_reglement, paye, fk_statut,
        fk_user_author, fk_user_valid, note_public) VALUES
    ('FA2601-0001', 'BC-17', 1, '2026-01-12 09:00:00', '2026-01-12', '2026-01-12', '2026-02-11', 1, 2, 2, 2, NULL),
    ('FA2602-0002', NULL, 2, '2026-02-02 10:30:00', '2026-02-02', '2026-02-03', '2026-03-04', 0, 1, 2, 2,
        'Merci, à bientôt !'),
    ('FA2602-0003', 'PO "2026/88"', 3, '2026-02-17 15:00:00', '2026-02-17', '2026-02-17', '2026-03-19', 1, 2, 2, 2, NULL),
    ('FA2604-0004', NULL, 9, '2026-04-20 11:11:00', '2026-04-20', '2026-04-21', '2026-05-20', 0, 1, 2, 2, NULL),
    ('(PROV5)', NULL, 5, '2026-05-05 03:00:00', '2026-05-05', NULL, NULL, 0, 0, 2, NULL, NULL),
    ('(PROV6)', NULL, 12, '2026-05-06 16:00:00', '2026-05-06', NULL, NULL, 0, 0, 1, NULL, 'Brouillon — à vérifier');

INSERT INTO llx_facturedet (fk_facture, fk_product, description, tva_tx, qty, subprice, product_type, rang) VALUES
    (1, 3, 'Galette complète', 5.5, 20, 6.90, 0, 1),
    (1, 4, 'Cidre brut 75 cl', 20, 6, 7.50, 0, 2),
    (1, 8, 'Livraison', 20, 1, 12.00, 1, 3),
    (2, 1, 'Crêpe au sucre', 5.5, 45, 2.50, 0, 1),
    (2, NULL, 'Décoration « fête de l''été », à la main', 20, 1, 35.00, 1, 2),
    (3, 6, 'Bilig ⌀ 40 cm, 3,5 kW', 0, 2, 489.00, 0, 1),
    (4, 5, 'Farine de blé noir, sac de 25 kg', 0, 2.5, 41.20, 0, 1),
    (4, NULL, 'Remise', 0, 1, -5.00, 0, 2),
    (5, 7, 'アトリエ (2 h)', 0, 2, 90.00, 1, 1),
    (6, 2, 'Crêpe caramel « maison »', 5.5, 12, 3.80, 0, 1);

UPDATE llx_facturedet SET
    total_ht = round(subprice * qty::numeric, 2),
    total_tva = round(subprice * qty::numeric * tva_tx / 100, 2),
    total_ttc = round(subprice * qty::numeric, 2) + round(subprice * qty::numeric * tva_tx / 100, 2);

UPDATE llx_facture SET (total_ht, total_tva, total_ttc) = (
    SELECT sum(total_ht), sum(total_tva), sum(total_ttc) FROM llx_facturedet WHERE fk_facture = llx_facture.rowid
);

INSERT INTO llx_actioncomm (ref, datep, datep2, code, label, note, fk_soc, fk_contact, fk_user_author, fk_user_action,
        percent, location, fk_element, elementtype, datec) VALUES
    ('1', '2026-01-12 09:00:00', '2026-01-12 09:00:00', 'AC_BILL_VALIDATE', 'Invoice FA2601-0001 validated', NULL, 1,
        NULL, 2, 2, -1, NULL, 1, 'invoice', '2026-01-12 09:00:00'),
    ('2', '2026-02-10 14:00:00', '2026-02-10 14:30:00', 'AC_TEL', 'Rappeler Élodie', 'Unpaid: « demain, promis »', 2,
        NULL, 2, 2, 100, NULL, 2, 'invoice', '2026-02-09 17:00:00'),
    ('3', '2026-05-20 08:00:00', '2026-05-20 12:00:00', 'AC_RDV', 'Dégustation à l''atelier', NULL, 12, NULL, 2, 3, 0,
        'Vannes, 2ᵉ étage', NULL, NULL, '2026-05-06 16:10:00'),
    ('4', '2026-05-21 00:00:00', NULL, 'AC_OTH', 'Réunion "produits"', NULL, NULL, NULL, 1, 1, 0, NULL, NULL, NULL,
        '2026-05-06 16:20:00');

INSERT INTO llx_cronjob (jobtype, label, classesname, objectname, methodename, module_name, unitfrequency, frequency,
        status, datec) VALUES
    ('method', 'RecurringInvoicesJob', 'compta/facture/class/facture-rec.class.php', 'FactureRec',
        'createRecurringInvoices', 'facture', '86400', 1, 1, '2019-03-04 09:15:00'),
    ('method', 'SendEmailsReminders', 'comm/action/class/actioncomm.class.php', 'ActionComm', 'sendEmailsReminder',
        'agenda', '60', 5, 1, '2019-03-04 09:15:00'),
    ('method', 'PurgeDeleteTemporaryFilesShort', 'core/class/utils.class.php', 'Utils', 'purgeFiles', NULL, '604800', 2,
        0, '2019-03-04 09:15:00');

INSERT INTO llx_notify_def (fk_action, fk_soc, fk_contact, email, datec) VALUES
    (5, 1, 1, NULL, '2019-04-01'),
    (5, 3, NULL, 'einkauf@mueller-soehne.example', '2019-05-02');

INSERT INTO llx_webhook_target (ref, label, date_creation, fk_user_creat, status, url, trigger_codes) VALUES
    ('1', 'Shop', '2022-05-02 10:00:00', 1, 1, 'https://shop.prod.example/stock', 'PRODUCT_MODIFY');

INSERT INTO llx_emailcollector_emailcollector (ref, label, host, login, password, date_creation, fk_user_creat, status)
VALUES ('Factures', 'Invoices of suppliers', 'imap.prod.example', 'factures', 'prod-imap-password-2d',
    '2021-01-04 08:00:00', 1, 1);

INSERT INTO llx_oauth_token (service, tokenstring, fk_user, datec) VALUES
    ('Google-Prod', '{"access_token":"prod-google-token-77aa","token_type":"bearer"}', 2, '2024-09-01 09:00:00');

INSERT INTO llx_ecm_files (ref, label, filepath, filename, src_object_type, src_object_id, position, gen_or_uploaded,
        date_c, fk_user_c) VALUES
    ('d41d8cd98f00b204e9800998ecf8427e', '9a0364b9e99bb480dd25e1f0284c8555', 'facture/FA2601-0001', 'FA2601-0001.pdf',
        'facture', 1, 1, 'generated', '2026-01-12 09:00:00', 2),
    ('0cc175b9c0f1b6a831c399e269772661', '92eb5ffee6ae2fec3ad71c777531578f', 'facture/FA2602-0002',
        'FA2602-0002 (signé).pdf', 'facture', 2, 1, 'uploaded', '2026-02-04 18:00:00', 2),
    ('4a8a08f09d37b73795649038408b5f33', '8277e0910d750195b448797616e091ad', 'mycompany/logos', 'creperie.png', NULL, NULL,
        1, 'uploaded', '2019-03-04 09:20:00', 1);
